//! The yardstick for the webhook's throughput: the same TLS and HTTP/1.1, with nothing in between.
//!
//! `bare ADDR DIR BYTES` serves with a self-signed certificate in `DIR`, reads each body, and
//! answers with this many constant bytes. `bare ADDR DIR FILE` answers with the text of this file,
//! in which the review's `uid` replaces the word `UID`: an API server accepts no other answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

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

/// What each request is answered with.
#[derive(Clone)]
enum Answer {
    Bytes(Bytes),
    Text(Arc<str>),
}

impl Answer {
    fn to(&self, review: &[u8]) -> Bytes {
        const UID: &str = "\"uid\":\"";
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Text(text) => {
                // The first `uid` in an API server's review is the request's.
                let review = String::from_utf8_lossy(review);
                let uid = review.split(UID).nth(1).and_then(|it| it.split('"').next());
                text.replacen("UID", uid.unwrap_or_default(), 1).into()
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(addr), Some(dir), Some(answer)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: bare ADDR DIR BYTES|FILE".into());
    };
    let addr: SocketAddr = addr.parse()?;
    let tls = TlsArgs {
        tls_self_signed: Some(PathBuf::from(dir)),
        ..TlsArgs::default()
    };
    let acceptor = tls.load(addr)?.acceptor();
    let listener = TcpListener::bind(addr).await?;
    let answer = match answer.parse() {
        Ok(bytes) => Answer::Bytes(vec![b' '; bytes].into()),
        Err(_) => Answer::Text(std::fs::read_to_string(answer)?.into()),
    };
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
    answer: Answer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(Collected::to_bytes);
    let answer = body.map_or_else(|_| Bytes::new(), |review| answer.to(&review));
    let mut response = Response::new(Full::new(answer));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
