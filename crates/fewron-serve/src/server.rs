//! The socket: connections, time-outs and the end.

mod connections;
mod io;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io::{Error, Result};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use crate::api::{App, Phase, router};
use connections::{Connection, Connections};
use io::Guarded;

/// How often the end is looked for.
const TICK: Duration = Duration::from_millis(20);

/// Time for the last replies to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long things may take.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For the head of a request to come, counted from the end of the last one: idle connections too.
    pub head: Duration,
    /// For a client to take some of a reply.
    pub write: Duration,
    /// For running requests to end after the signal to.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { head: seconds(30), write: seconds(60), drain: seconds(30) }
    }
}

/// A server that has its socket.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    runtime: Runtime,
}

impl Server {
    /// Takes a socket; port 0 is any free one.
    ///
    /// # Errors
    /// When the address is not to be had.
    pub fn bind(host: &str, port: u16) -> Result<Self> {
        let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
        let listener = TcpListener::bind(addresses.as_slice())?;
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(4)
            .thread_name("http")
            .enable_all()
            .build()?;
        Ok(Self { address: listener.local_addr()?, listener, runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is set, then ends: running requests have the drain time, new ones are
    /// refused, and what is left fails. At most `connections` are open at a time.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn run(
        self,
        app: &Arc<App>,
        timeouts: &Timeouts,
        connections: usize,
        stop: &AtomicBool,
    ) -> Result<()> {
        let Self { listener, runtime, .. } = self;
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let open = Arc::new(Connections::new(connections, Arc::clone(app)));
            let accepting = accept(listener, router(Arc::clone(app)), &open, timeouts);
            let ending = end(app, &open, timeouts, stop);
            tokio::select! {
                () = accepting => {}
                () = ending => {}
            }
            Ok::<(), Error>(())
        });
        // Text that is being tokenised is not waited for.
        runtime.shutdown_background();
        served
    }
}

/// Accepts connections for ever. Where there are too many, the longest idle one makes room.
async fn accept(
    listener: tokio::net::TcpListener,
    router: Router,
    open: &Arc<Connections>,
    timeouts: &Timeouts,
) {
    loop {
        let (stream, connection) = match listener.accept().await {
            Ok((stream, _)) => (stream, open.enter().await),
            Err(error) => {
                // Too many open files, or a client that has gone already.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(TICK).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream, router.clone(), connection, timeouts.clone()));
    }
}

/// Serves one connection until either side ends it.
async fn serve(stream: TcpStream, router: Router, connection: Connection, timeouts: Timeouts) {
    let connection = Arc::new(connection);
    let busy = Arc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let work = busy.work();
        let reply = router.clone().oneshot(request);
        async move { reply.await.map(|response| work.through(response)) }
    });
    let io = TokioIo::new(Guarded::new(stream, timeouts.write));
    let mut http = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeouts.head)
            .serve_connection(io, service)
    );
    tokio::select! {
        _ = http.as_mut() => return,
        () = connection.evicted() => return,
        () = connection.ending() => http.as_mut().graceful_shutdown(),
    }
    let _ = http.await;
}

/// Waits for the signal to stop, and for the end of what runs.
async fn end(app: &Arc<App>, open: &Connections, timeouts: &Timeouts, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        sleep(TICK).await;
    }
    tracing::info!("draining");
    app.phase.send_replace(Phase::Draining);
    app.engine.drain();
    let ends = Instant::now() + timeouts.drain;
    while !app.engine.is_idle() && Instant::now() < ends {
        sleep(TICK).await;
    }
    let engine = app.engine.clone();
    let stopped = tokio::task::spawn_blocking(move || engine.stop(LAST_WORDS));
    let _ = timeout(LAST_WORDS, stopped).await;
    app.phase.send_replace(Phase::Ending);
    let _ = timeout(LAST_WORDS, open.all_closed()).await;
}
