"""What EvoLink's image models accept: facts as data, and the requests they allow."""
