//! A proxy of Pingora alone: what the gateway would cost without any step of its own. Allocator, threads, pool and
//! time-outs are the gateway's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::modules::http::HttpModules;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

use super::flags::Flags;

pub fn run(flags: &Flags) -> Result<(), String> {
    let listen = flags.needed("--listen")?;
    let upstream = flags.needed("--upstream")?;
    let upstream =
        upstream.parse().map_err(|_| format!("--upstream {upstream} is not an address and port"))?;
    let conf = ServerConf {
        threads: flags.number("--threads", 1)?,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), Passthrough { upstream });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}

struct Passthrough {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Passthrough {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        peer.options.connection_timeout = Some(Duration::from_secs(5));
        peer.options.total_connection_timeout = Some(Duration::from_secs(5));
        peer.options.read_timeout = Some(Duration::from_secs(120));
        peer.options.write_timeout = Some(Duration::from_secs(120));
        peer.options.idle_timeout = Some(Duration::from_secs(50));
        Ok(Box::new(peer))
    }
}
