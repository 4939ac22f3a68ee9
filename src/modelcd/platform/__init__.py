"""What a workspace is made of, bound together: its environments in order, its journal, the services beside them."""
