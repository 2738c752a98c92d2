"""The features that a card payment of the built-in schema gets where the user declares none."""

from __future__ import annotations

from tollgate.features.declaration import Expr, log1p, tx
from tollgate.features.entities import entity

_CARD, _CUSTOMER, _MERCHANT = entity("card_id"), entity("customer_id"), entity("merchant_id")
_DEVICE, _IP, _PAIR = entity("device_id"), entity("ip"), entity("card_id", "merchant_id")
_SMALL = tx.amount < 5  # what a card tester tries with

PAYMENT_FEATURES: list[Expr] = [
    tx.amount,
    log1p(tx.amount),
    tx.hour_of_day,
    tx.day_of_week,
    tx.channel.category(),
    tx.mcc.category(),
    tx.country.category(),
    tx.card_present,
    *_CARD.count(over=["1m", "10m", "1h", "1d", "7d", "30d"]),
    *_CARD.sum(tx.amount, over=["1h", "1d", "7d", "30d"]),
    _CARD.mean(tx.amount, over="30d"),
    (tx.amount / _CARD.mean(tx.amount, over="30d")).named("card_amount_ratio_30d"),
    *_CARD.count(over=["10m", "1d"], where=_SMALL),
    (_CARD.count(over="7d", where=tx.card_present == 0) / _CARD.count(over="7d")).named("card_remote_share_7d"),
    _CARD.seconds_since_last(),
    *_CUSTOMER.count(over=["1h", "1d"]),
    *_MERCHANT.count(over=["10m", "1h", "1d"]),
    *_MERCHANT.count(over=["10m", "1h"], where=_SMALL),
    (tx.amount / _MERCHANT.mean(tx.amount, over="7d")).named("merchant_amount_ratio_7d"),
    *_DEVICE.count(over=["10m", "1h", "1d", "7d"]),
    _DEVICE.sum(tx.amount, over="1d"),
    _DEVICE.seconds_since_last(),
    _DEVICE.is_new_for(_CARD),
    *_IP.count(over=["10m", "1h", "1d"]),
    _IP.is_new_for(_CARD),
    _PAIR.count(over="30d"),
    _CARD.is_new_for(_MERCHANT),
]
