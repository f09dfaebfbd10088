"""Published rows as data, what this machine lacks for them, their runs, and the page about them."""
