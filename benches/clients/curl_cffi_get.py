"""curl_cffi: curl_cffi_get.py URL CA."""

import sys

from curl_cffi import requests

url, ca = sys.argv[1:]
assert requests.get(url, verify=ca, impersonate="chrome").status_code == 200
