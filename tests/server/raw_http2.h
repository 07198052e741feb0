// HTTP/2 frames by hand, for what a gRPC client would never send (RFC 9113, RFC 7541).
#pragma once

#include <boost/asio.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace vernier::testing {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

struct Frame {
  enum Type : uint8_t { kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kGoAway = 7 };
  static constexpr uint8_t kContinuation = 9;
  static constexpr uint8_t kEndStream = 1, kEndHeaders = 4;

  uint8_t type = 0;
  uint8_t flags = 0;
  uint32_t stream = 0;
  std::string payload;
};

inline boost::asio::ip::tcp::socket ConnectSocket(boost::asio::io_context* loop,
                                                  const std::string& address) {
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  (void)absl::SimpleAtoi(absl::string_view(address).substr(colon + 1), &port);
  boost::asio::ip::tcp::socket socket(*loop);
  socket.connect(
      {boost::asio::ip::make_address(address.substr(0, colon)), static_cast<uint16_t>(port)});
  return socket;
}

// One connection. It never acknowledges the peer's settings.
class RawHttp2 {
 public:
  explicit RawHttp2(const std::string& address) : socket_(ConnectSocket(&loop_, address)) {
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    SendFrame({Frame::kSettings, 0, 0, ""});
  }

  void Send(const std::string& bytes) {
    boost::system::error_code ignored;  // a peer that has closed shows it in Read
    boost::asio::write(socket_, boost::asio::buffer(bytes), ignored);
  }
  void SendFrame(const Frame& frame) {
    std::string bytes;
    AppendBigEndian(frame.payload.size(), 3, &bytes);
    bytes += static_cast<char>(frame.type);
    bytes += static_cast<char>(frame.flags);
    AppendBigEndian(frame.stream, 4, &bytes);
    Send(bytes + frame.payload);
  }
  // A request's headers, in as many frames as they need.
  void SendHeaders(uint32_t stream, const std::string& method, const HeaderList& extra,
                   const std::string& content_type = "application/grpc") {
    HeaderList headers = {{":method", "POST"}, {":scheme", "http"},
                          {":path", method},   {":authority", "test"},
                          {"te", "trailers"},  {"content-type", content_type}};
    headers.insert(headers.end(), extra.begin(), extra.end());
    std::string block;
    for (const auto& [name, value] : headers) {
      block += '\0';  // literal, not indexed, new name
      AppendString(name, &block);
      AppendString(value, &block);
    }
    constexpr size_t kMost = 16000;
    for (size_t first = 0; first < block.size(); first += kMost) {
      const bool last = first + kMost >= block.size();
      SendFrame({first == 0 ? uint8_t{Frame::kHeaders} : Frame::kContinuation,
                 last ? Frame::kEndHeaders : uint8_t{0}, stream, block.substr(first, kMost)});
    }
  }
  // A gRPC message, the request's last.
  void SendMessage(uint32_t stream, const std::string& message) {
    std::string payload(1, '\0');
    AppendBigEndian(message.size(), 4, &payload);
    SendFrame({Frame::kData, Frame::kEndStream, stream, payload + message});
  }

  // Nothing when the peer has closed.
  std::optional<Frame> Read() {
    const std::string head = ReadBytes(9);
    if (head.size() < 9) return std::nullopt;
    const auto at = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(head[i])); };
    Frame frame;
    frame.type = static_cast<uint8_t>(at(3));
    frame.flags = static_cast<uint8_t>(at(4));
    frame.stream = (at(5) & 0x7f) << 24 | at(6) << 16 | at(7) << 8 | at(8);
    frame.payload = ReadBytes(at(0) << 16 | at(1) << 8 | at(2));
    return frame;
  }
  // The frames of `stream` until it ends; also ends with the connection or a GOAWAY.
  std::vector<Frame> ReadStream(uint32_t stream) {
    std::vector<Frame> frames;
    while (auto frame = Read()) {
      const bool end = frame->type == Frame::kGoAway ||
                       (frame->stream == stream &&
                        (frame->type == Frame::kReset || (frame->flags & Frame::kEndStream) != 0));
      if (frame->stream == stream || end) frames.push_back(*std::move(frame));
      if (end) break;
    }
    return frames;
  }

 private:
  static void AppendBigEndian(uint64_t value, int bytes, std::string* out) {
    for (int i = bytes - 1; i >= 0; --i) *out += static_cast<char>(value >> (8 * i) & 0xff);
  }
  // Length with a prefix of 7 bits, then the bytes, not Huffman coded.
  static void AppendString(const std::string& text, std::string* out) {
    size_t length = text.size();
    if (length < 127) {
      *out += static_cast<char>(length);
    } else {
      *out += '\x7f';
      for (length -= 127; length >= 128; length >>= 7) {
        *out += static_cast<char>(0x80 | (length & 0x7f));
      }
      *out += static_cast<char>(length);
    }
    *out += text;
  }
  std::string ReadBytes(size_t count) {
    std::string bytes(count, '\0');
    boost::system::error_code error;
    bytes.resize(boost::asio::read(socket_, boost::asio::buffer(bytes), error));
    return bytes;
  }

  boost::asio::io_context loop_;
  boost::asio::ip::tcp::socket socket_;
};

}  // namespace vernier::testing
