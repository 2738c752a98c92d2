"""Amounts as whole minor units of one base currency.

Exponents are those of ISO 4217. Money is never summed raw across currencies: an amount in another currency
is converted at the newest dated rate that is not after the transaction, or refused.
"""

from __future__ import annotations

import bisect
from datetime import UTC, date, datetime

import msgspec

from tollgate.errors import ConfigError, InputError

MAX_AMOUNT_MINOR = 10**11  # a billion euros: far above any payment, and windowed sums of them stay exact in float64

_EXPONENT_0 = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_EXPONENT_2 = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF
CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF
IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN
MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS
SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
_EXPONENT_3 = "BHD IQD JOD KWD LYD OMR TND"
_EXPONENT_4 = "CLF UYW"

EXPONENTS: dict[str, int] = {
    code: exponent
    for exponent, codes in ((0, _EXPONENT_0), (2, _EXPONENT_2), (3, _EXPONENT_3), (4, _EXPONENT_4))
    for code in codes.split()
}

_DAY_US = 86_400_000_000
DECIMAL_NOISE = 1e-9  # what a decimal loses in binary is less; a real further decimal is more


def exponent_of(currency: str) -> int:
    """Return how many decimals `currency` has.

    Raises:
        InputError: It is no active ISO 4217 code.
    """
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise InputError(
            "unknown_currency",
            f"expected an ISO 4217 currency code such as 'EUR', but got {currency!r}",
        )
    return exponent


class DatedRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one unit of each currency was worth in the base currency, from `date` on."""

    date: date
    to_base: dict[str, float]


class Money(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base currency, and the dated rates into it.

    Raises:
        ConfigError: A currency is unknown, a rate is not positive, or the dates do not rise.
    """

    currency: str = "EUR"
    rates: tuple[DatedRates, ...] = ()

    def __post_init__(self) -> None:
        for code in (self.currency, *(code for dated in self.rates for code in dated.to_base)):
            if code not in EXPONENTS:
                raise ConfigError("unknown_currency", f"[money] expected ISO 4217 codes, but got {code!r}")
        dates = [dated.date for dated in self.rates]
        if dates != sorted(set(dates)):
            raise ConfigError("bad_rates", "[[money.rates]] expected dates that rise from entry to entry")
        if any(rate <= 0 for dated in self.rates for rate in dated.to_base.values()):
            raise ConfigError("bad_rates", "[[money.rates]] expected every rate above 0")

    @property
    def scale(self) -> float:
        """Minor units in one unit of the base currency."""
        return float(10 ** EXPONENTS[self.currency])

    def to_minor(self, amount: float, currency: str, time_us: int) -> int:
        """Return `amount` of `currency` as minor units of the base currency, at the rate of `time_us`.

        Raises:
            InputError: The amount is negative, too large, not finite, has more decimals than the currency, or
                no rate is known.
        """
        exponent = exponent_of(currency)
        scale = float(10**exponent)
        if not 0 <= amount * scale <= MAX_AMOUNT_MINOR:  # NaN fails this too
            raise InputError(
                "bad_amount",
                f"expected an amount from 0 to {MAX_AMOUNT_MINOR / scale:.0f} {currency}, but got {amount!r}",
            )
        minor = round(amount * scale)
        if abs(amount - minor / scale) > DECIMAL_NOISE * max(1.0, amount):
            raise InputError(
                "bad_amount",
                f"expected at most {exponent} decimals in {currency}, but got {amount!r}; round it, or use the "
                "currency that it is in",
            )
        if currency == self.currency:
            return minor
        return round(minor * self._rate(currency, time_us) * self.scale / scale)

    def _rate(self, currency: str, time_us: int) -> float:
        day = datetime.fromtimestamp(time_us // _DAY_US * 86_400, tz=UTC).date()
        place = bisect.bisect_right(self.rates, day, key=lambda dated: dated.date)
        for dated in reversed(self.rates[:place]):
            if currency in dated.to_base:
                return dated.to_base[currency]
        raise InputError(
            "no_rate",
            f"expected {self.currency}, or a currency with a rate on {day}, but got {currency}; add it to "
            "[[money.rates]] in tollgate.toml",
        )
