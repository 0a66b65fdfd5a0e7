//! A request about one key: which key it is, and which change `If-Match` allows.

use actix_web::{HttpRequest, web};

use crate::{
    domain::id::KeyId,
    http::{
        api::revision::expected_revision, blocking::run, problem::Problem,
        request::body::RequestBody,
    },
    service::{Error, KeyAccess, KeyChange, KeyView, Keyward, Principal},
};

/// A request about one key.
pub(super) struct KeyRequest<'r> {
    pub caller: Principal,
    /// The name of the key in the path.
    pub id: &'r str,
    pub access: KeyAccess,
    pub req: &'r HttpRequest,
}

impl KeyRequest<'_> {
    /// Returns the key as it is now.
    pub async fn find(&self, app: &web::Data<Keyward>) -> Result<KeyView, Problem> {
        find(app, &self.caller, self.id, self.access).await
    }

    /// Returns the change of the key, which `If-Match` may restrict; 412 if the key has another revision.
    pub fn change(&self, view: &KeyView) -> Result<KeyChange, Error> {
        let expected = expected_revision(self.req, view.key.revision)?;
        Ok(KeyChange { id: view.key.id, access: self.access, expected })
    }

    /// Returns the change of the key, for an operation that takes no body.
    pub async fn change_without_body(
        &self,
        app: &web::Data<Keyward>,
        body: RequestBody,
    ) -> Result<KeyChange, Problem> {
        let view = self.find(app).await?;
        let members = body.none()?;
        let change = self.change(&view)?;
        members.finish(Some(change)).map_err(Problem::invalid)
    }
}

pub(super) async fn find(
    app: &web::Data<Keyward>,
    caller: &Principal,
    id: &str,
    access: KeyAccess,
) -> Result<KeyView, Problem> {
    let (caller, id) = (caller.clone(), key_in_path(app, caller, id)?);
    run(app, move |app| app.find_key(&caller, id, access)).await
}

/// Returns the key that the path names: by its identifier, by the key prefix of one of its credentials,
/// or as `self` for the presented key.
fn key_in_path(app: &Keyward, caller: &Principal, text: &str) -> Result<KeyId, Error> {
    if text == "self" {
        return caller.key().ok_or(Error::NO_KEY);
    }
    KeyId::parse(text).ok().or_else(|| app.key_with_prefix(text)).ok_or(Error::NO_KEY)
}
