"""Features for e-commerce purchases: devices and addresses that several users share, and how fast one buys."""

from tollgate.features import entity, log1p, tx

device, ip, user = entity("device_id"), entity("ip"), entity("user_id")

DAYS = ["1h", "1d", "7d", "30d"]
instant = tx.effective_time - tx.signup_time < 120  # bought within two minutes of signing up

FEATURES = [
    tx.amount,
    log1p(tx.amount),
    tx.hour_of_day,
    tx.day_of_week,
    tx.source.category(),
    tx.browser.category(),
    tx.sex.category(),
    tx.age,
    log1p(tx.effective_time - tx.signup_time).named("log_seconds_since_signup"),
    instant.named("is_instant"),
    *device.count(over=DAYS),
    *device.sum(tx.amount, over=DAYS),
    device.std(tx.amount, over="30d"),
    device.distinct(tx.user_id, over="30d"),
    device.distinct(tx.browser, over="30d"),
    device.same_as_last(tx.amount),
    device.seconds_since_last(),
    device.seconds_since_first(),
    device.count(over="30d", where=instant).named("device_instant_30d"),
    *device.fraud_count(over=["7d", "30d"]),
    *ip.count(over=DAYS),
    ip.distinct(tx.device_id, over="30d"),
    ip.seconds_since_last(),
    *ip.fraud_count(over=["7d", "30d"]),
    device.is_new(),
    ip.is_new(),
    user.is_new_for(device),
    device.seconds_since_fraud(),
    # The device's last purchases, step by step, for the sequence network.
    *device.lag(log1p(tx.amount), last=4),
    *device.seconds_since_lag(last=4),
    *device.lag(log1p(tx.effective_time - tx.signup_time).named("log_seconds_since_signup"), last=4),
]
