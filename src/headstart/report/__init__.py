"""What a person reads about a run: computed first as plain data (`summary`), drawn last (`html`, `figures`)."""
