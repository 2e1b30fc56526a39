"""How the pair `tiny` was trained and measured: a student and a teacher with FLUX's architecture, for laptops."""
