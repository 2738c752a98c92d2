"""Rules: what a risk team decides by itself, beside the model, and changes while the server runs."""

from tollgate.rules.compiled import Rules, compile_rules
from tollgate.rules.document import Rule, RuleMode, RuleSet, parse_rules, read_rules
from tollgate.rules.limits import RateLimits

__all__ = ["RateLimits", "Rule", "RuleMode", "RuleSet", "Rules", "compile_rules", "parse_rules", "read_rules"]
