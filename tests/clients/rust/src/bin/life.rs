//! The life of a key, with the client that progenitor makes.

use std::{env, num::NonZeroU64};

use futures::TryStreamExt;
use keyward_client::{
    Client,
    types::{
        ApiKey, EventType, ListOrder, Metadata, Network, Problem, RateLimit, ScopeName, UpdateKeyRequestName,
        VerifyCode,
    },
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

type Error = keyward_client::Error<Problem>;

/// Returns the problem of an answer.
fn problem<T>(answer: Result<T, Error>) -> Problem {
    match answer {
        Err(Error::ErrorResponse(problem)) => problem.into_inner(),
        Err(other) => panic!("not a problem of keyward: {other}"),
        Ok(_) => panic!("no problem"),
    }
}

fn text_of(key: &ApiKey) -> &str {
    key.key.as_deref().expect("this answer holds the full key")
}

async fn verify(client: &Client, key: &str, scopes: &[ScopeName]) -> Result<VerifyCode, Error> {
    let question = client.verify_api_key().body_map(|it| it.key(key).scopes(scopes));
    let outcome = question.send().await?;
    assert_eq!(outcome.valid, outcome.code == VerifyCode::Valid);
    Ok(outcome.code)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = HeaderValue::from_str(&env::var("KEYWARD_KEY")?)?;
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), key)]);
    let http = reqwest::Client::builder().default_headers(headers).build()?;
    let client = Client::new_with_client(&env::var("KEYWARD_URL")?, http);
    let read_orders: ScopeName = "orders:read".parse()?;

    // Create. A repeated request gets the same answer.
    let metadata: Metadata = serde_json::from_value(json!({ "team": "billing", "tier": 2 }))?;
    let limit = RateLimit { limit: 100.try_into()?, window_seconds: 60.try_into()? };
    let office: Network = "203.0.113.0/24".parse()?;
    let create = || {
        let request = client.create_api_key().idempotency_key("order-4712");
        request.body_map(|it| {
            it.name("Orders")
                .scopes([read_orders.clone()])
                .expires_in(NonZeroU64::new(86400))
                .allowed_ips(vec![office.clone()])
                .rate_limit(limit.clone())
                .metadata(metadata.clone())
        })
    };
    let created = create().send().await?;
    let repeated = create().send().await?;
    assert_eq!(repeated.headers()["Idempotency-Replayed"], "true");
    assert_eq!(repeated.key, created.key);
    assert_eq!(created.metadata["team"], "billing");
    let lifetime = created.expires_at.map(|it| it - created.created_at);
    assert_eq!(lifetime.map(|it| it.num_seconds()), Some(86400));

    // Verify. The list of addresses refuses a client whose address is unknown.
    assert_eq!(verify(&client, text_of(&created), &[]).await?, VerifyCode::IpNotAllowed);

    // Change the key, but only the revision that was read.
    let read = client.get_api_key().id(&*created.id).send().await?;
    let etag = read.headers()["ETag"].to_str()?;
    let change = client.patch_api_key().id(&*created.id).if_match(etag);
    let name: UpdateKeyRequestName = "Orders, read only".parse()?;
    let changed = change.body_map(|it| it.name(name)).send().await?;
    assert_eq!(*changed.name, "Orders, read only");
    assert_eq!(changed.rate_limit.as_ref().map(|it| it.limit.get()), Some(100));
    let late = client.patch_api_key().id(&*created.id).if_match(etag);
    let late = problem(late.body_map(|it| it.enabled(false)).send().await);
    assert_eq!((late.status, &*late.code), (412, "precondition_failed"));

    // Rotate. Both credentials are accepted until the grace period ends.
    let created = client.create_api_key().body_map(|it| it.name("Shop").scopes([read_orders.clone()]));
    let created = created.send().await?;
    assert_eq!(verify(&client, text_of(&created), &[]).await?, VerifyCode::Valid);
    let wanted = ["orders:write".parse()?];
    assert_eq!(verify(&client, text_of(&created), &wanted).await?, VerifyCode::InsufficientScopes);
    let rotate = client.rotate_api_key().id(&*created.id);
    let rotated = rotate.body_map(|it| it.grace_period_seconds(300)).send().await?;
    assert_ne!(rotated.key, created.key);
    assert_eq!(rotated.previous_keys[0].key_prefix, *created.key_prefix);
    assert_eq!(verify(&client, text_of(&created), &[]).await?, VerifyCode::Valid);
    assert_eq!(verify(&client, text_of(&rotated), &[]).await?, VerifyCode::Valid);

    // Revoke.
    client.revoke_api_key().id(&*created.id).reason("the test ends").send().await?;
    assert_eq!(verify(&client, text_of(&created), &[]).await?, VerifyCode::Revoked);
    assert_eq!(verify(&client, text_of(&rotated), &[]).await?, VerifyCode::Revoked);

    // Refusals. The client itself refuses values that the document does not allow, such as an empty name.
    let gone = problem(client.get_api_key().id(&*created.id).send().await);
    assert_eq!((gone.status, &*gone.code), (404, "not_found"));
    let unknown: ScopeName = "orders:fly".parse()?;
    let inexact: Network = "203.0.113.7/24".parse()?;
    let faulty =
        client.create_api_key().body_map(|it| it.name("Faulty").scopes([unknown]).allowed_ips(vec![inexact]));
    let problem = problem(faulty.send().await);
    let faults: Vec<_> = problem.errors.iter().map(|it| (&*it.pointer, &*it.code)).collect();
    assert_eq!(problem.status, 422);
    assert_eq!(faults, [("/scopes/0", "unknown_scope"), ("/allowedIps/0", "invalid_format")]);

    // Lists, page by page.
    let mut names = Vec::new();
    let mut cursor = None;
    for name in ["One", "Two", "Three"] {
        let key = client.create_api_key().body_map(|it| it.name(name).scopes([read_orders.clone()]));
        key.send().await?;
    }
    loop {
        let mut request = client.list_api_keys().limit(2_u32).scope("orders:read").q("o");
        if let Some(cursor) = cursor {
            request = request.cursor(cursor);
        }
        let page = request.send().await?.into_inner();
        names.extend(page.data.into_iter().map(|it| it.name.to_string()));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(names, ["Orders, read only", "One", "Two"]);

    // Events.
    let events = client.list_events().type_(EventType::ApiKeyRevoked).order(ListOrder::Desc).limit(1_u32);
    let events = events.send().await?;
    let event = &events.data[0];
    assert_eq!(event.type_, EventType::ApiKeyRevoked.to_string());
    assert_eq!(event.subject, *created.id);
    assert_eq!(event.data["reasonText"], "the test ends");

    // The stream of events.
    let mut stream = client.stream_events().after(0).send().await?.into_inner_stream();
    let first = stream.try_next().await?.unwrap_or_default();
    assert!(first.starts_with(b"retry:"), "{first:?}");

    println!("Rust: the life of a key");
    Ok(())
}
