//! Two real iroh endpoints on 127.0.0.1, one over our provider and one over ring's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use iroh::{
    Endpoint, EndpointAddr, RelayMode,
    endpoint::{PortmapperConfig, presets},
};
use rustls::crypto::CryptoProvider;

const ALPN: &[u8] = b"honeylink/test/interop";

fn ours() -> Arc<CryptoProvider> {
    honeylink::crypto::provider().unwrap()
}

fn rings() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// An endpoint that reaches nothing but this machine.
async fn endpoint(provider: Arc<CryptoProvider>) -> Endpoint {
    Endpoint::builder(presets::Empty)
        .crypto_provider(provider)
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .alpns(vec![ALPN.to_vec()])
        .clear_ip_transports()
        .bind_addr((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .bind()
        .await
        .unwrap()
}

/// Answers two connections with an echo of one stream each.
async fn echo(server: Endpoint) {
    for _ in 0..2 {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = connection.accept_bi().await.unwrap();
        tokio::io::copy(&mut recv, &mut send).await.unwrap();
        send.finish().unwrap();
        connection.closed().await;
    }
}

async fn round_trip(client: &Endpoint, server: EndpointAddr, bytes: &[u8]) {
    let connection = client.connect(server, ALPN).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let sending = async {
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
    };
    let ((), answer) = tokio::join!(sending, recv.read_to_end(bytes.len()));
    assert!(answer.unwrap() == bytes, "the echo differs");
    connection.close(0u32.into(), b"done");
}

/// A mebibyte there and back, then a second connection with the ticket and the token of the first.
async fn interoperate(client: Arc<CryptoProvider>, server: Arc<CryptoProvider>) {
    let (client, server) = (endpoint(client).await, endpoint(server).await);
    let mut address = EndpointAddr::new(server.id());
    for socket in server.bound_sockets() {
        address = address.with_ip_addr(socket);
    }
    let serving = tokio::spawn(echo(server.clone()));
    let work = async {
        round_trip(&client, address.clone(), &vec![0x5a; 1 << 20]).await;
        round_trip(&client, address, b"again").await;
        serving.await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap();
    client.close().await;
    server.close().await;
}

#[tokio::test]
async fn our_endpoint_dials_one_over_ring() {
    interoperate(ours(), rings()).await;
}

#[tokio::test]
async fn an_endpoint_over_ring_dials_ours() {
    interoperate(rings(), ours()).await;
}
