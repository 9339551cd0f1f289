//! The one table of what the HTTP door offers: the router is made from it, the OpenAPI document is made
//! from it, and a test compares it with the commands. A path's parameters, the query's and the body's
//! members together are the fields of the command, so that nothing is named twice.

/// How a route is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A look.
    Get,
    /// Its body is a JSON object with the command's fields.
    Post,
    /// A change without a body.
    Delete,
}

impl Method {
    /// As OpenAPI writes it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }
}

/// What a parameter of a path or query is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// Text that may be given any number of times: the command's field of this name is the list.
    Texts(&'static str),
}

/// A parameter of a path or query.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name, and but for [`Read::Texts`] the command's field.
    pub name: &'static str,
    /// What it is read as.
    pub read: Read,
    /// Whether it may be left out.
    pub optional: bool,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// How it is called.
    pub method: Method,
    /// Its path below [`PREFIX`]; `{name}` is a parameter.
    pub path: &'static str,
    /// The command's word (its `do`).
    pub command: &'static str,
    /// The answer's word (its `view`).
    pub view: &'static str,
    /// What it does, for the document.
    pub about: &'static str,
    /// Parameters of the path.
    pub in_path: &'static [Parameter],
    /// Whether it changes something, or shows what is not for everybody.
    pub needs_token: bool,
    /// Parameters of the query.
    pub in_query: &'static [Parameter],
}

/// What stands before every path.
pub const PREFIX: &str = "/api/v1";

const NONE: &[Parameter] = &[];
const NAME: &[Parameter] = &[text("name")];

const fn text(name: &'static str) -> Parameter {
    Parameter {
        name,
        read: Read::Text,
        optional: false,
    }
}

const fn number(name: &'static str) -> Parameter {
    Parameter {
        name,
        read: Read::Number,
        optional: false,
    }
}

const fn texts(name: &'static str, field: &'static str) -> Parameter {
    Parameter {
        name,
        read: Read::Texts(field),
        optional: true,
    }
}

const fn optional(parameter: Parameter) -> Parameter {
    Parameter {
        optional: true,
        ..parameter
    }
}

const fn get(
    path: &'static str,
    command: &'static str,
    view: &'static str,
    in_query: &'static [Parameter],
    about: &'static str,
) -> Route {
    Route {
        method: Method::Get,
        path,
        command,
        view,
        about,
        in_path: NONE,
        needs_token: false,
        in_query,
    }
}

/// A look at what others may not see, or one that holds something up.
const fn guarded(route: Route) -> Route {
    Route {
        needs_token: true,
        ..route
    }
}

const fn post(
    path: &'static str,
    command: &'static str,
    view: &'static str,
    in_path: &'static [Parameter],
    about: &'static str,
) -> Route {
    Route {
        method: Method::Post,
        path,
        command,
        view,
        about,
        in_path,
        needs_token: true,
        in_query: NONE,
    }
}

/// All routes that carry a command. The streams and the pages are not commands and not here.
pub const ROUTES: &[Route] = &[
    get(
        "/status",
        "status",
        "status",
        NONE,
        "How the daemon, its pools and its homes are.",
    ),
    get(
        "/models",
        "models",
        "models",
        &[optional(text("filter"))],
        "Models whose name contains or matches the filter.",
    ),
    post(
        "/models/promote",
        "promote",
        "moves",
        NONE,
        "Copy models into a pool.",
    ),
    post(
        "/models/warm-up",
        "warm-up",
        "moves",
        NONE,
        "Copy models into the pools, those first that are named first.",
    ),
    post(
        "/models/demote",
        "demote",
        "moves",
        NONE,
        "Drop the replicas of models.",
    ),
    post(
        "/models/pin",
        "pin",
        "moves",
        NONE,
        "Keep a model in a pool.",
    ),
    post(
        "/models/unpin",
        "unpin",
        "moves",
        NONE,
        "Leave a model to the policy again.",
    ),
    guarded(get(
        "/models/which",
        "which",
        "which",
        NAME,
        "Where the files of a model are.",
    )),
    get(
        "/models/explain",
        "explain",
        "explain",
        NAME,
        "Why a model is where it is.",
    ),
    guarded(get(
        "/models/wait",
        "wait",
        "moves",
        &[texts("name", "names"), number("timeout_s")],
        "Answers when the models that are named, or all that move, have arrived, or the time is over.",
    )),
    get("/tiers", "tiers", "tiers", NONE, "The pools."),
    Route {
        in_path: NAME,
        needs_token: true,
        ..get(
            "/tiers/{name}/steps",
            "tier-steps",
            "steps",
            NONE,
            "What would be done to set a configured pool up.",
        )
    },
    post(
        "/tiers/{name}/connect",
        "tier-connect",
        "moves",
        NAME,
        "Set a configured pool up.",
    ),
    Route {
        in_path: NAME,
        ..get(
            "/tiers/{name}/moves",
            "tier-moves",
            "plan",
            NONE,
            "What would become of what a pool holds if it were disconnected.",
        )
    },
    post(
        "/tiers/{name}/disconnect",
        "tier-disconnect",
        "moves",
        NAME,
        "Stop using a pool.",
    ),
    post(
        "/tiers/{name}/resize",
        "tier-resize",
        "moves",
        NAME,
        "Change how large a pool may become.",
    ),
    get(
        "/transfers",
        "transfers",
        "transfers",
        NONE,
        "Copies that run or wait.",
    ),
    Route {
        method: Method::Delete,
        path: "/transfers/{id}",
        command: "cancel-transfer",
        view: "moves",
        about: "End a copy.",
        in_path: &[number("id")],
        needs_token: true,
        in_query: NONE,
    },
    post(
        "/rescan",
        "rescan",
        "scan",
        NONE,
        "Read all homes through now.",
    ),
    get(
        "/events",
        "events",
        "events",
        &[optional(number("since"))],
        "What happened after an event, of what is remembered; /events/stream follows.",
    ),
    guarded(get(
        "/config",
        "config",
        "config",
        NONE,
        "The configuration in effect, secrets blanked.",
    )),
    post(
        "/config/reload",
        "reload",
        "reload",
        NONE,
        "Read the configuration again and apply what can be.",
    ),
    get(
        "/version",
        "version",
        "version",
        NONE,
        "Which version runs.",
    ),
    get(
        "/plan",
        "plan",
        "plan",
        NONE,
        "What the policy would do now.",
    ),
    get(
        "/history",
        "history",
        "history",
        NONE,
        "What loads have been like.",
    ),
    guarded(get(
        "/settings",
        "settings",
        "settings",
        NONE,
        "Every field of the configuration, for a form.",
    )),
    post(
        "/settings/check",
        "check-settings",
        "draft",
        NONE,
        "What changes of the configuration would mean; nothing is saved.",
    ),
    post(
        "/settings",
        "save-settings",
        "draft",
        NONE,
        "Change the configuration file, if nothing is wrong with it, and apply what can be.",
    ),
    get(
        "/forecast",
        "forecast",
        "forecast",
        NONE,
        "What other pool sizes would have meant for the loads that are logged.",
    ),
    post("/shutdown", "shutdown", "done", NONE, "Unmount and end."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_names_is_read_from_the_path() {
        for route in ROUTES {
            let named = route.path.split(['{', '}']).skip(1).step_by(2);
            let read = route.in_path.iter().map(|parameter| parameter.name);
            assert!(named.eq(read), "{}", route.path);
        }
    }
}
