"""File formats: each decodes its files at full depth, and says what is wrong with them."""
