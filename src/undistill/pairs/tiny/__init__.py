"""`tiny`: a student and a teacher with FLUX's architecture, small enough for a laptop, and how they were trained."""
