"""What is decided: no await, no clock, no I/O. Time is an argument and what is to be done is returned."""
