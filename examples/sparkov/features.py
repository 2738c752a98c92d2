"""Features for a Sparkov draw: cards at merchants, with demographics and home location."""

from tollgate.features import entity, log1p, tx

card, merchant, pair = entity("card_id"), entity("merchant_id"), entity("card_id", "merchant_id")

SHORT, LONG = ["1h", "6h"], ["1d", "7d", "30d"]

FEATURES = [
    tx.amount,
    log1p(tx.amount),
    tx.hour_of_day,
    tx.day_of_week,
    tx.category.category(),
    tx.gender.category(),
    tx.state.category(),
    log1p(tx.city_population),
    ((tx.effective_time - tx.born) / 31_557_600).named("age_years"),
    *card.count(over=[*SHORT, *LONG]),
    *card.sum(tx.amount, over=[*SHORT, *LONG]),
    *card.mean(tx.amount, over=LONG),
    (tx.amount / card.mean(tx.amount, over="30d")).named("card_amount_ratio_30d"),
    *card.count(over=["1d", "7d"], where=tx.amount > 200),
    card.count(over="1d", where=(tx.category == "shopping_net") | (tx.category == "misc_net")).named("card_online_1d"),
    card.seconds_since_last(),
    *merchant.count(over=["1d", "7d"]),
    *merchant.mean(tx.amount, over=["7d", "30d"]),
    (tx.amount / merchant.mean(tx.amount, over="30d")).named("merchant_amount_ratio_30d"),
    *pair.count(over=["30d"]),
    card.is_new_for(merchant),
]
