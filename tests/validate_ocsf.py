#!/usr/bin/env python3
"""Validates the lines of `keyward events export --format ocsf` on standard input.

Needs the packages ocsf-json-schema and jsonschema. Prints each error and exits with 1 if there is any."""
import json, sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

validators = {}
wrong = lines = 0
for line in sys.stdin:
    event = json.loads(line)
    key = event["metadata"]["version"], event["class_uid"]
    if key not in validators:
        schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=key[0]))
        name = schema.lookup_class_name_from_uid(key[1])
        validators[key] = Draft202012Validator(schema.get_class_schema(name, profiles=[]))
    lines += 1
    for error in validators[key].iter_errors(event):
        wrong += 1
        print(f"event {event['metadata']['sequence']}: {error.json_path}: {error.message}")
print(f"{lines} lines, {wrong} faults")
sys.exit(wrong > 0 or lines == 0)
