"""How many decisions a second does a server make, and how late are they, beside what people run?"""
