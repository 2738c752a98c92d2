"""The kinds of fraud, one module each: an attack with its own course over minutes, hours or days. One is all data.

Each can be told from honest payments only in part: every signal that it leaves is also left by some honest
customer (a trip, a new phone, a spree of gifts, a travel agent's device, a VPN).
"""
