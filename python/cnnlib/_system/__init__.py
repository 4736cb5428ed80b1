"""The process that this is: threads and instruction set; numbers and names as a terminal shows them."""
