"""The demonstration behind ``ice-tcp demo``: two agents in two processes of this machine, and a file between them.

`plan` says what is to be done, `sender` and `receiver` are the two processes, `side` is what they have in common,
`server` is what they ask and what relays for them, `record` is what they saw, and `plain`, `live` and `document` show
it.
"""
