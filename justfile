# List the recipes
default:
    @just --list

# What must be green before a commit
check:
    cargo fmt --all --check
    cargo clippy --all-targets --locked -- -D warnings
    cargo test --locked
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
    cargo run --locked --quiet -- openapi | diff - openapi/openapi.json

# Everything that is checked of a proposed change: also lints, a browser, the release build
ci:
    .ci/run

# Run the tests; with a word, those whose names hold it
test *filter:
    cargo test --locked {{ filter }}

# Write the API document anew
openapi:
    cargo run --locked --quiet -- openapi > openapi/openapi.json

# Run a server on a scratch database under target/
run *args:
    cargo run --locked -- serve --data-dir target/scratch {{ args }}
