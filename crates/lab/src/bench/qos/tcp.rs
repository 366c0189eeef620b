//! A TCP stream on the same cable: what a bottleneck gives a bulk transfer that does not care about anybody's latency.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::net::THERE;
use super::peers::{Devices, WARM_UP};
use crate::Trouble;

const BUFFER_BYTES: usize = 256 << 10;

pub(crate) fn goodput_mbit_per_s(devices: &Devices, seconds: Duration) -> Result<f64, Trouble> {
    let listener = Devices::on(&devices.there, async { Ok(TcpListener::bind((THERE, 0)).await?) })?;
    let to: SocketAddr = listener.local_addr()?;
    let arrived = Arc::new(AtomicU64::new(0));
    let counting = arrived.clone();
    let reading = devices.there.spawn(async move {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            counting.fetch_add(read as u64, Ordering::Relaxed);
        }
    });
    let writing = devices.here.spawn(async move {
        let buffer = vec![7; BUFFER_BYTES];
        if let Ok(mut stream) = TcpStream::connect(to).await {
            while stream.write_all(&buffer).await.is_ok() {}
        }
    });
    std::thread::sleep(WARM_UP);
    let (before, started) = (arrived.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(seconds);
    let bytes = arrived.load(Ordering::Relaxed) - before;
    let took = started.elapsed();
    writing.abort();
    reading.abort();
    if bytes == 0 {
        return Err("nothing arrived over TCP".into());
    }
    Ok(bytes as f64 * 8e-6 / took.as_secs_f64())
}
