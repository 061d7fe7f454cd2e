#!/usr/bin/env bash
# The server at FEWRON_SERVER with curl, as the documentation has it.
set -euo pipefail

ask() { curl --silent --show-error --max-time 120 -H 'Content-Type: application/json' "$@"; }
expect() { grep -qF -- "$1" <<<"$2" || { echo "no $1 in: $2" >&2 && exit 1; }; }

url=$FEWRON_SERVER
expect '"status":"ok"' "$(ask "$url/health")"
expect '"content":"' "$(ask "$url/v1/chat/completions" \
    -d '{"model": "model", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}')"
expect 'data: [DONE]' "$(ask --no-buffer "$url/v1/chat/completions" \
    -d '{"model": "model", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "stream": true}')"
expect '"tokens":[' "$(ask "$url/tokenize" -d '{"prompt": "Hello"}')"
expect 'fewron_requests_total' "$(ask "$url/metrics")"
expect '"openapi":"3.1.0"' "$(ask "$url/openapi.json")"
# A form, which is what curl sends by itself, is no JSON.
expect 'unsupported_media_type' "$(curl --silent "$url/v1/completions" -d '{}')"
expect 'invalid_json' "$(printf '{"model": "\xff"}' | ask "$url/v1/completions" --data-binary @-)"
expect 'body_too_large' "$(head -c 10000000 /dev/zero | tr '\0' ' ' |
    ask "$url/v1/completions" --data-binary @-)"
expect 'body_too_large' "$(head -c 10000000 /dev/zero | tr '\0' ' ' |
    ask "$url/v1/completions" -H 'Transfer-Encoding: chunked' -H 'Expect:' --data-binary @-)"
echo "curl: all well"
