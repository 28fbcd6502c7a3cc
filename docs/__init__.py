"""What people read, and what writes the generated part of it."""
