//! Two real iroh endpoints on 127.0.0.1 with the node's own cryptography at both ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::Ipv4Addr, time::Duration};

use iroh::{
    Endpoint, EndpointAddr, RelayMode,
    endpoint::{PortmapperConfig, presets},
};

const ALPN: &[u8] = b"honeylink/test/crypto";

/// An endpoint that reaches nothing but this machine.
async fn endpoint() -> Endpoint {
    Endpoint::builder(presets::Empty)
        .crypto_provider(honeylink::crypto::provider().unwrap())
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

fn address(endpoint: &Endpoint) -> EndpointAddr {
    let mut address = EndpointAddr::new(endpoint.id());
    for socket in endpoint.bound_sockets() {
        address = address.with_ip_addr(socket);
    }
    address
}

/// Answers `connections` connections with an echo of one stream each.
async fn echo(server: Endpoint, connections: usize) {
    for _ in 0..connections {
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

/// The second connection presents what the first left behind: a session ticket and an address-validation token.
#[tokio::test]
async fn two_endpoints_connect_move_a_mebibyte_and_resume() {
    let (client, server) = (endpoint().await, endpoint().await);
    let address = address(&server);
    let serving = tokio::spawn(echo(server.clone(), 2));
    let bytes: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_be_bytes).collect();
    let work = async {
        round_trip(&client, address.clone(), &bytes).await;
        round_trip(&client, address, b"again").await;
        serving.await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap();
    client.close().await;
    server.close().await;
}
