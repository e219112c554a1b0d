"""What can go wrong between a program and its database server, on purpose."""
