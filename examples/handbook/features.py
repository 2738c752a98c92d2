"""Features for the Fraud Detection Handbook's transactions: customers (one card each) at terminals."""

from tollgate.features import entity, log1p, tx

card, terminal, pair = entity("card_id"), entity("terminal_id"), entity("card_id", "terminal_id")

DAYS = ["1d", "7d", "30d"]
SPELL = "7d"  # so long without a label of fraud, and a spell of frauds is over
STEPS = 16  # transactions of the card that the sequence network reads

FEATURES = [
    tx.amount,
    log1p(tx.amount),
    tx.hour_of_day,
    (tx.day_of_week >= 5).named("is_weekend"),
    (tx.hour_of_day < 7).named("is_night"),
    *card.count(over=["1h", "6h", *DAYS]),
    *card.sum(tx.amount, over=["1d", "7d"]),
    *card.mean(tx.amount, over=DAYS),
    *card.max(tx.amount, over=["7d", "30d"]),
    *card.std(tx.amount, over=["30d"]),
    card.ratio(tx.amount, over="30d"),
    card.zscore(tx.amount, over="30d"),
    card.ratio(tx.amount, over="7d"),
    card.distinct(tx.terminal_id, over="7d"),
    card.seconds_since_last(),
    *card.fraud_count(over=["7d", "30d"]),
    *terminal.count(over=DAYS),
    *terminal.mean(tx.amount, over=["7d", "30d"]),
    terminal.ratio(tx.amount, over="30d"),
    terminal.distinct(tx.card_id, over="7d"),
    *terminal.fraud_count(over=["1d", "7d", "14d", "30d"]),
    *terminal.fraud_rate(over=["1d", "2d", "3d", "5d", "7d", "14d", "30d"], delay="7d"),
    terminal.seconds_since_last(),
    pair.count(over="30d"),
    card.ratio_to_median(tx.amount, last=32),
    card.robust_zscore(tx.amount, last=32),
    *(who.seconds_since_fraud() for who in (card, terminal)),
    *(who.seconds_since_first_fraud(within=SPELL) for who in (card, terminal)),
    *(who.fraud_spell_count(within=SPELL) for who in (card, terminal)),
    *card.lag(log1p(tx.amount), last=STEPS),
    *card.seconds_since_lag(last=STEPS),
    *(
        (then == tx.terminal_id).named(f"card_terminal_same_lag_{step}")
        for step, then in enumerate(card.lag(tx.terminal_id, last=STEPS), start=1)
    ),
]
