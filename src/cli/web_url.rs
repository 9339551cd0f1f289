//! `speedloader web-url`: a link to the page with the token in its fragment, which browsers keep to
//! themselves: it reaches no log and no other site. Read from the file, so that who may not read the
//! token's file cannot come by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use speedloader_config::Config;

use super::context::Context;
use super::running::running;
use super::settings::{client_config, socket};
use crate::command::{Code, Command, Message};
use crate::control::http::Token;
use crate::view::{DoneView, NOT_SERVED, View};

/// Print a link to the web page that may change things
#[derive(Args, Debug)]
#[command(after_help = "\
Whoever has the link can change everything; it is printed for root and the control group only.
Without http.token it is good until the daemon ends: each has a token of its own.

Examples:
  speedloader web-url
  ssh -L 5050:127.0.0.1:5050 gpu-host speedloader web-url    the page of another machine")]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let running = running(context);
    if running.is_some() {
        refuse_where_another_listens(context)?;
    }
    let config = match &running {
        Some(running) => running.config.clone(),
        None => config_of_socket(context)?,
    };
    if !config.http.enabled {
        return Err(Message::new(Code::Failed, "the web page is switched off")
            .with_hint("set http.enabled = true in the configuration"));
    }
    let origin = running
        .as_ref()
        .and_then(|running| running.origin_of("http.token"));
    let token = match (&config.http.token, origin) {
        (Some(token), _) => Token::new(token.as_str()),
        (None, Some(origin)) => return Err(unreadable(origin)),
        (None, None) => Token::read_from(&config.state_dir)?,
    };
    let text = format!(
        "http://{}/#token={}",
        reachable(config.http.listen),
        token.reveal()
    );
    context.show(&View::Done(DoneView { text }))
}

/// Who has the port that the daemon wanted would be sent the token by the page that opens.
fn refuse_where_another_listens(context: &Context<'_>) -> Result<(), Message> {
    let View::Status(status) = context.ask(Command::Status {})? else {
        return Ok(());
    };
    let mut warnings = status.warnings.into_iter();
    match warnings.find(|warning| warning.starts_with(NOT_SERVED)) {
        Some(warning) => Err(Message::new(Code::Failed, warning)
            .with_hint("it is tried again every few seconds; or set http.listen to a free address, and mount again")),
        None => Ok(()),
    }
}

/// Whose configuration is meant is told by whose socket would be.
fn config_of_socket(context: &Context<'_>) -> Result<Config, Message> {
    let (flag, file) = (
        context.global.socket.as_deref(),
        context.global.config.as_deref(),
    );
    let socket = socket(context.console, flag, file)?;
    client_config(context.console, file, &socket)
}

fn unreadable(origin: &str) -> Message {
    let text = format!(
        "the token is in http.token of the daemon, from {origin}, which cannot be read here"
    );
    Message::new(Code::Denied, text).with_hint("whoever has set it can open the page with it")
}

/// An address that a browser here can open: "all addresses" is none.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_an_address_that_can_be_opened() {
        for (listen, link) in [
            ("127.0.0.1:5050", "127.0.0.1:5050"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.9:1", "10.0.0.9:1"),
        ] {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), link);
        }
    }
}
