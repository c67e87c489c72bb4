"""What was found, for people and for programs: a table, JSON, JUnit XML, and a page of HTML."""
