"""Features for the Fraud Detection Handbook's transactions: customers (one card each) at terminals."""

from tollgate.features import entity, log1p, tx

card, terminal, pair = entity("card_id"), entity("terminal_id"), entity("card_id", "terminal_id")

LONG = ["1d", "7d", "30d"]

FEATURES = [
    tx.amount,
    log1p(tx.amount),
    tx.hour_of_day,
    tx.day_of_week,
    (tx.day_of_week >= 5).named("is_weekend"),
    (tx.hour_of_day < 7).named("is_night"),
    *card.count(over=["1h", "6h", *LONG]),
    *card.sum(tx.amount, over=LONG),
    *card.mean(tx.amount, over=LONG),
    (tx.amount / card.mean(tx.amount, over="30d")).named("card_amount_ratio_30d"),
    (tx.amount / card.mean(tx.amount, over="7d")).named("card_amount_ratio_7d"),
    card.seconds_since_last(),
    *terminal.count(over=["1h", *LONG]),
    *terminal.mean(tx.amount, over=LONG),
    (tx.amount / terminal.mean(tx.amount, over="30d")).named("terminal_amount_ratio_30d"),
    *terminal.count(over=["1d", "7d", "30d"], where=tx.amount > 200),
    terminal.seconds_since_last(),
    *pair.count(over=["7d", "30d"]),
    card.is_new_for(terminal),
]
