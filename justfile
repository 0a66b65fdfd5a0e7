# List the recipes
default:
    @just --list

# Run the checks that must pass before a commit
check:
    cargo fmt --all --check
    cargo clippy --all-targets --locked -- -D warnings
    cargo test --locked
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
    cargo run --locked --quiet -- openapi | diff - openapi/openapi.json

# Run all checks of a proposed change, including linters, a browser and the release build
ci:
    .ci/run

# Run the tests; with a word, only tests whose names contain it
test *filter:
    cargo test --locked {{ filter }}

# Write the API document again
openapi:
    cargo run --locked --quiet -- openapi > openapi/openapi.json

# Run a server with a temporary database under target/
run *args:
    cargo run --locked -- serve --data-dir target/scratch {{ args }}
