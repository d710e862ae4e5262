"""Components that the shipped ones are compared with; no command needs them."""
