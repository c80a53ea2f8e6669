//! The streams of an HTTP/2 connection: each an exchange of its own, on a line of its own.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use super::plane::Gateway;
use super::record;

/// Pingora's proxy, each of whose streams can be cut while the others go on.
pub(super) struct Streams {
    pub(super) proxy: Arc<HttpProxy<Gateway>>,
    pub(super) gateway: Gateway,
}

#[async_trait]
impl HttpServerApp for Streams {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let line = self.gateway.open_exchanges().line();
        session.req_header_mut().extensions_mut().insert(line.share());
        let served = line.until_cut(self.proxy.process_new_http(session, shutdown)).await;
        if let Some(remains) = line.left().remains {
            let status = remains.status;
            record::cut(&self.gateway, *remains, status);
        }
        served.flatten()
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }
}
