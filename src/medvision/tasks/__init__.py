"""What is optimised and scored."""
