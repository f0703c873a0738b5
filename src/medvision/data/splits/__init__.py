"""Parts that share no patient."""
