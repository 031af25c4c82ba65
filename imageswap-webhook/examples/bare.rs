//! The yardstick for the webhook's throughput: the same TLS and HTTP/1.1, with nothing in between.
//!
//! `bare ADDR DIR BYTES` serves with a self-signed certificate in `DIR`, reads each body, and
//! answers with this many constant bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use imageswap_runtime::net;
use imageswap_runtime::tls::TlsArgs;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(addr), Some(dir), Some(bytes)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: bare ADDR DIR BYTES".into());
    };
    let addr: SocketAddr = addr.parse()?;
    let tls = TlsArgs {
        tls_cert: None,
        tls_key: None,
        tls_self_signed: Some(PathBuf::from(dir)),
        tls_san: vec![],
    };
    let acceptor = tls.load(addr)?.acceptor();
    let listener = TcpListener::bind(addr).await?;
    let answer = Bytes::from(vec![b' '; bytes.parse()?]);
    loop {
        let (stream, _peer) = net::accept(&listener).await;
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request| constant(request, answer.clone()));
            // Clients that disconnect do not matter here.
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

async fn constant(
    request: Request<Incoming>,
    answer: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(Collected::to_bytes);
    let mut response = Response::new(Full::new(if body.is_ok() { answer } else { Bytes::new() }));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
