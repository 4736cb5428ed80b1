"""The process that this is: threads, instruction set, optional packages; texts as a terminal shows them."""
