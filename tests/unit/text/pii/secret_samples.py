"""One secret of every kind, made at random."""

from __future__ import annotations

import random
import string

_random = random.Random(5)
WORD = string.ascii_letters + string.digits


def chars(count: int, alphabet: str = WORD) -> str:
    return "".join(_random.choices(alphabet, k=count))


# Made of pieces, so that no scanner takes this file for a leak.
SHAPES = {
    "AWS_ACCESS_KEY": "AK" + "IA" + chars(16, string.ascii_uppercase + "234567"),
    "GITHUB_TOKEN": "gh" + "p_" + chars(36),
    "GITLAB_TOKEN": "gl" + "pat-" + chars(20),
    "ANTHROPIC_KEY": "sk-" + "ant-api03-" + chars(60),
    "OPENAI_KEY": "sk-" + "proj-" + chars(48),
    "SLACK_TOKEN": "xo" + "xb-" + chars(12, string.digits) + "-" + chars(24),
    "GOOGLE_KEY": "AI" + "za" + chars(35),
    "STRIPE_KEY": "sk_" + "live_" + chars(24),
    "HUGGINGFACE_TOKEN": "h" + "f_" + chars(34, string.ascii_letters),
    "PACKAGE_TOKEN": "np" + "m_" + chars(36),
    "SENDGRID_KEY": "S" + "G." + chars(22) + "." + chars(43),
    "JWT": "ey" + "J" + chars(20) + ".ey" + "J" + chars(40) + "." + chars(43),
    "URL_PASSWORD": "redis://cache:" + chars(14) + "@10.0.0.7:6379/0",
    "PRIVATE_KEY": "-----BEGIN RSA "
    + "PRIVATE KEY-----\n"
    + chars(200)
    + "\n-----END RSA "
    + "PRIVATE KEY-----",
    "DIGITALOCEAN_TOKEN": "do" + "p_v1_" + chars(64, "0123456789abcdef"),
    "SLACK_WEBHOOK": "https://hooks.slack" + ".com/services/T" + chars(9) + "/B" + chars(9) + "/" + chars(24),
    "SECRET": 'client_secret = "' + chars(32) + '"',
}
