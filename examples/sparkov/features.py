"""Features for a Sparkov draw: cards at merchants, with demographics and home location."""

from tollgate.features import cyclical, entity, log1p, tx

card, merchant, pair = entity("card_id"), entity("merchant_id"), entity("card_id", "merchant_id")

DAYS = ["1d", "7d", "30d"]
online = (tx.category == "shopping_net") | (tx.category == "misc_net")

FEATURES = [
    tx.amount,
    log1p(tx.amount),
    tx.hour_of_day,
    *cyclical(tx.hour_of_day, 24),
    tx.day_of_week,
    tx.category.category(),
    tx.gender.category(),
    tx.state.category(),
    log1p(tx.city_population),
    ((tx.effective_time - tx.born) / 31_557_600).named("age_years"),
    *card.count(over=["1h", "6h", *DAYS]),
    *card.sum(tx.amount, over=["1h", "6h", *DAYS]),
    *card.mean(tx.amount, over=DAYS),
    *card.max(tx.amount, over=["1d", "30d"]),
    card.zscore(tx.amount, over="30d"),
    card.ratio(tx.amount, over="30d"),
    *card.count(over=["6h", "1d", "7d"], where=tx.amount > 200),
    card.count(over="1d", where=online).named("card_online_1d"),
    card.distinct(tx.category, over="1d"),
    card.same_as_last(tx.category),
    card.last(tx.amount),
    card.seconds_since_last(),
    card.ratio_to_median(tx.amount, last=32),
    card.robust_zscore(tx.amount, last=32),
    card.seconds_since_fraud(),
    card.seconds_since_first_fraud(within="7d"),
    card.fraud_spell_count(within="7d"),
    *card.fraud_count(over=["7d", "30d"]),
    *merchant.count(over=["1d", "7d"]),
    merchant.ratio(tx.amount, over="30d"),
    *merchant.fraud_count(over=["7d", "30d"]),
    pair.count(over="30d"),
    card.is_new_for(merchant),
    # The card's last transactions, step by step, for the sequence network.
    *card.lag(log1p(tx.amount), last=16),
    *card.seconds_since_lag(last=16),
    *(
        (lag == tx.category).named(f"card_same_category_lag_{k}")
        for k, lag in enumerate(card.lag(tx.category, last=16), 1)
    ),
]
