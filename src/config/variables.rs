//! Environment variables that begin with `KEYWARD_` and are not settings.

use super::{
    COMMAND_LINE_VARIABLES, Fault, SETTINGS, Setting, SettingSource,
    faults::{nearest, quoted},
};

const PREFIX: &str = "KEYWARD_";

/// Returns the fault of a variable that begins with `KEYWARD_` and has no meaning, with the nearest
/// known name. Returns `None` for every other variable, and for the service links of Kubernetes.
pub fn unknown(name: &str, value: &str) -> Option<Fault> {
    let tail = name.strip_prefix(PREFIX)?;
    let reserved = COMMAND_LINE_VARIABLES.iter().map(|(name, _)| (*name).to_owned());
    let known: Vec<_> = SETTINGS.iter().map(Setting::variable).chain(reserved).collect();
    if known.iter().any(|it| it == name) || is_service_link(name, value) {
        return None;
    }
    let message = if tail == "PORT" {
        format!(
            "no setting; write `KEYWARD_LISTEN=127.0.0.1:8080`, with {} as the port",
            quoted(value)
        )
    } else {
        // With the common beginning, every name would be similar to every other.
        let tails = known.iter().filter_map(|it| it.strip_prefix(PREFIX));
        match nearest(tail, tails) {
            Some(near) => format!("unknown variable; did you mean `{PREFIX}{near}`?"),
            None => "unknown variable".to_owned(),
        }
    };
    Some(Fault { origin: SettingSource::Variable(name.to_owned()), message })
}

/// Whether Kubernetes sets the variable, in every pod of the namespace of a Service named `keyward` or
/// `keyward-…` (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_service_link(name: &str, value: &str) -> bool {
    let by_name = ["_SERVICE_", "_PORT_"].iter().any(|it| name.contains(it));
    by_name || name.ends_with("_PORT") && value.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_of_kubernetes_are_ignored() {
        for (name, value) in [
            ("KEYWARD_SERVICE_HOST", "10.0.0.1"),
            ("KEYWARD_SERVICE_PORT", "8080"),
            ("KEYWARD_SERVICE_PORT_HTTP", "8080"),
            ("KEYWARD_PORT", "tcp://10.0.0.1:8080"),
            ("KEYWARD_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("KEYWARD_PORT_8080_TCP_PROTO", "tcp"),
            ("KEYWARD_PORT_8080_TCP_PORT", "8080"),
            ("KEYWARD_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("KEYWARD_METRICS_SERVICE_HOST", "10.0.0.1"),
            ("KEYWARD_METRICS_PORT", "udp://10.0.0.1:8080"),
            ("KEYWARD_METRICS_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("PATH", "/bin"),
        ] {
            assert_eq!(unknown(name, value), None);
        }
    }

    #[test]
    fn no_name_with_a_meaning_looks_like_a_service_link() {
        let reserved = COMMAND_LINE_VARIABLES.iter().map(|(name, _)| (*name).to_owned());
        for name in SETTINGS.iter().map(Setting::variable).chain(reserved) {
            assert!(!is_service_link(&name, "tcp://10.0.0.1:8080"), "{name}");
        }
    }

    #[test]
    fn a_mistyped_variable_is_a_fault_with_the_nearest_name() {
        let says = |name, value| unknown(name, value).map(|it| it.message).unwrap_or_default();
        assert!(says("KEYWARD_LISTNE", "x").ends_with("did you mean `KEYWARD_LISTEN`?"));
        assert_eq!(says("KEYWARD_API_KEY", "x"), "unknown variable");
        let port = says("KEYWARD_PORT", "8081");
        assert!(
            port.contains("`KEYWARD_LISTEN=127.0.0.1:8080`") && port.contains("8081"),
            "{port}"
        );
    }
}
