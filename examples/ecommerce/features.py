"""Features for e-commerce purchases: devices and addresses that several users share, and how fast one buys."""

from tollgate.features import entity, log1p, tx

device, ip, user = entity("device_id"), entity("ip"), entity("user_id")

instant = tx.effective_time - tx.signup_time < 120  # bought within two minutes of signing up
LONG = ["1h", "1d", "7d", "30d"]

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
    *device.count(over=LONG),
    *device.sum(tx.amount, over=LONG),
    *device.mean(tx.amount, over=["30d"]),
    device.seconds_since_last(),
    device.count(over="1d", where=instant).named("device_instant_1d"),
    device.count(over="30d", where=instant).named("device_instant_30d"),
    *ip.count(over=LONG),
    *ip.sum(tx.amount, over=LONG),
    ip.seconds_since_last(),
    user.is_new(),
    user.is_new_for(device),
    device.is_new(),
    ip.is_new(),
    device.is_new_for(ip),
]
