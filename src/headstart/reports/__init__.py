"""What a person reads about a run: computed first as plain data (`summary`), drawn last (`html`, `figures`).

The room is called `reports` since `headstart.report` is the verb.
"""
