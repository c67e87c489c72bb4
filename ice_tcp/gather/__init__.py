"""What `ice-tcp gather` shows: this host's candidates, what its servers answer, and how NATs map its ports.

`survey` gathers, once or again and again, `findings` is what came of it, `changes` what became different, `words` says
it for people, and `plain`, `live` and `document` show it.
"""
