//! The peer fastwebsockets: `/echo` sends back, what comes on `/pub` goes to everyone on `/ws`.
//!
//! The handshake is hyper's, echo reads and writes frame by frame, unconstrained by tokio's budget, all as in the
//! library's own examples: a read cannot be cancelled, so an echo cannot know that more is there, and each answer is a
//! write. The fan-out can: a `tokio::sync::broadcast` is drained into a `BufWriter`, which is flushed once; so its
//! documentation advises for buffered streams. Nagle's algorithm is off.

use bytes::Bytes;
use fastwebsockets::upgrade::{upgrade, UpgradeFut};
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, WebSocketError};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::BufWriter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

type Channel = broadcast::Sender<Bytes>;

const QUEUE_MESSAGES: usize = 4096;
const WRITE_BUFFER_BYTES: usize = 2 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "7070".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let (channel, _) = broadcast::channel(QUEUE_MESSAGES);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, channel.clone()));
    }
}

async fn serve(stream: TcpStream, channel: Channel) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| answer(request, channel.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // How a connection ends is no matter here: its task ends.
    let _ = connection.with_upgrades().await;
}

async fn answer(mut request: Request<Incoming>, channel: Channel) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, socket) = upgrade(&mut request)?;
    let path = request.uri().path().to_owned();
    tokio::spawn(tokio::task::unconstrained(async move {
        let _ = match path.as_str() {
            "/echo" => echo(socket).await,
            "/ws" => listen(socket, channel).await,
            "/pub" => publish(socket, channel).await,
            _ => Ok(()),
        };
    }));
    Ok(response)
}

async fn echo(socket: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(socket.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            OpCode::Close => return Ok(()),
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}

async fn listen(socket: UpgradeFut, channel: Channel) -> Result<(), WebSocketError> {
    let (mut reader, mut writer) = socket.await?.split(|stream| {
        let (reader, writer) = tokio::io::split(stream);
        (reader, BufWriter::with_capacity(WRITE_BUFFER_BYTES, writer))
    });
    let mut queue = channel.subscribe();
    let writing = async {
        // Whoever lags behind by the whole queue is cut off.
        while let Ok(message) = queue.recv().await {
            writer.write_frame(Frame::text(Payload::Borrowed(&message))).await?;
            while let Ok(message) = queue.try_recv() {
                writer.write_frame(Frame::text(Payload::Borrowed(&message))).await?;
            }
            writer.flush().await?;
        }
        Ok(())
    };
    let reading = async {
        loop {
            let frame = reader.read_frame::<_, WebSocketError>(&mut |_| async { Ok(()) }).await?;
            if frame.opcode == OpCode::Close {
                return Ok(());
            }
        }
    };
    // The one that ends ends the other, and is not asked again.
    tokio::select! {
        result = writing => result,
        result = reading => result,
    }
}

async fn publish(socket: UpgradeFut, channel: Channel) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(socket.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => {
                let _ = channel.send(Bytes::from(frame.payload.to_vec())); // an error: nobody listens
            }
            OpCode::Close => return Ok(()),
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}
