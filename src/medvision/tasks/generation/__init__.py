"""Images made by a generator, judged before they may be used."""
