"""The paper's tables and figures by one command: what each is, made from shared sets and trainings, beside the paper's.

An item (`items`) is rows of methods and what is claimed of them. A place (`places`) says what the paper's methods and
networks are on some data. A plan (`plan`) turns both into sets and trainings that are made once each, `run` makes what
is missing, and `outcomes` reads what is there.
"""
