"""One paid request from intent to saved picture; knows neither MCP nor HTTP."""
