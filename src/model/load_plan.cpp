// Walks the model once and writes down every tensor: the only place that knows which tensors a
// decoder has.
#include "model/load_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/log.h"
#include "model/tensor_names.h"
#include "ops/linear.h"

namespace donar::model {
namespace {

constexpr uint64_t kPlaceAlignment = 64;
constexpr int64_t kPackedRows = 16;  // ops::repack_rows takes multiples of this

quant::Format format_of(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return quant::Format::kF16;
    case DType::kBF16:
      return quant::Format::kBF16;
    default:
      return quant::Format::kF32;
  }
}

bool is_plain_float(quant::Format format) { return quant::info(format).block_values == 1; }

class Planner {
 public:
  Planner(const ModelFiles& files, const LoadOptions& options, DeviceType device, std::byte* buffer)
      : files_(files),
        options_(options),
        names_(tensor_names(files.checkpoint.container)),
        buffer_(buffer) {
    plan_.layout = ops::preferred_layout(device);
  }

  Result<LoadPlan> run() {
    const ModelConfig& config = files_.config;
    if (options_.dtype && *options_.dtype != DType::kF32 && *options_.dtype != DType::kF16 &&
        *options_.dtype != DType::kBF16)
      return fail(ErrorCode::kInvalidArgument, "weights cannot be cast to {}",
                  dtype_name(*options_.dtype));
    if (!dummy() && files_.checkpoint.files.empty())
      return fail(ErrorCode::kNotFound,
                  "{}: no weights: expected model.safetensors, model.safetensors.index.json or a "
                  ".gguf file",
                  files_.checkpoint.path.string());
    Weights& weights = plan_.weights;
    matrix(names_.embedding, config.vocab_size, config.dim, 0.02f, weights.embedding);
    weights.layers.resize(config.layers.size());
    for (size_t i = 0; i < weights.layers.size(); ++i)
      layer(static_cast<int>(i), weights.layers[i]);
    vector(names_.final_norm + ".weight", config.dim, 1.0f, weights.final_norm);
    weights.head.count = 1;
    if (config.tied_head)
      weights.head.parts[0] = weights.embedding;
    else
      matrix(names_.head, config.vocab_size, config.dim, 0.02f, weights.head.parts[0]);
    if (error_) return tl::unexpected(std::move(*error_));
    std::stable_sort(plan_.items.begin(), plan_.items.end(),
                     [](const LoadItem& a, const LoadItem& b) {
                       if (!a.entry || !b.entry) return false;
                       return std::pair(a.entry->file, a.entry->offset) <
                              std::pair(b.entry->file, b.entry->offset);
                     });
    weights.bytes = plan_.packed_bytes;
    return std::move(plan_);
  }

 private:
  bool dummy() const { return options_.load_format == LoadFormat::kDummy; }

  void layer(int index, LayerWeights& layer) {
    const ModelConfig& config = files_.config;
    const LayerNames names = names_.layer(index);
    const float spread = 1.0f / std::sqrt(static_cast<float>(config.dim));
    const int q_permuted = config.permuted_qk ? config.q_heads : 0;
    const int k_permuted = config.permuted_qk ? config.kv_heads : 0;
    vector(names.attn_norm + ".weight", config.dim, 1.0f, layer.attn_norm);
    layer.qkv.count = 3;
    auto& [q, k, v] = layer.qkv.parts;
    matrix(names.q, config.q_dim(), config.dim, spread, q, config.qkv_bias, q_permuted);
    matrix(names.k, config.kv_dim(), config.dim, spread, k, config.qkv_bias, k_permuted);
    matrix(names.v, config.kv_dim(), config.dim, spread, v, config.qkv_bias);
    if (config.qk_norm) {
      vector(names.q_norm + ".weight", config.head_dim, 1.0f, layer.q_norm);
      vector(names.k_norm + ".weight", config.head_dim, 1.0f, layer.k_norm);
    }
    layer.attn_out.count = 1;
    matrix(names.attn_out, config.dim, config.q_dim(),
           1.0f / std::sqrt(static_cast<float>(config.q_dim())), layer.attn_out.parts[0],
           config.out_bias);
    vector(names.ffn_norm + ".weight", config.dim, 1.0f, layer.ffn_norm);
    layer.gate_up.count = 2;
    matrix(names.gate, config.ffn_dim, config.dim, spread, layer.gate_up.parts[0], config.mlp_bias);
    matrix(names.up, config.ffn_dim, config.dim, spread, layer.gate_up.parts[1], config.mlp_bias);
    layer.down.count = 1;
    matrix(names.down, config.dim, config.ffn_dim,
           1.0f / std::sqrt(static_cast<float>(config.ffn_dim)), layer.down.parts[0],
           config.mlp_bias);
  }

  // nullptr: dummy weights without such a tensor in the checkpoint, or an error was noted.
  const TensorEntry* lookup(const std::string& name, const std::vector<int64_t>& shape) {
    if (error_ || (dummy() && !files_.checkpoint.contains(name))) return nullptr;
    Result<const TensorEntry*> entry = files_.checkpoint.find(name, shape);
    if (entry) return *entry;
    error_ = std::move(entry.error());
    return nullptr;
  }

  uint64_t reserve(uint64_t bytes) {
    const uint64_t place = plan_.packed_bytes;
    plan_.packed_bytes = (place + bytes + kPlaceAlignment - 1) & ~(kPlaceAlignment - 1);
    return place;
  }

  quant::Format packed_format(quant::Format stored) const {
    return options_.dtype && is_plain_float(stored) ? format_of(*options_.dtype) : stored;
  }

  void add(LoadItem item, const TensorEntry* entry) {
    if (entry) plan_.stored_bytes += entry->bytes;
    item.entry = dummy() ? nullptr : entry;
    plan_.items.push_back(item);
  }

  void matrix(const std::string& name, int64_t n, int64_t k, float spread,
              quant::LinearWeight& weight, bool has_bias = false, int permuted_heads = 0) {
    const TensorEntry* entry = lookup(name + ".weight", {n, k});
    LoadItem item;
    item.stored = entry ? entry->format : format_of(options_.dtype.value_or(DType::kBF16));
    item.packed = packed_format(item.stored);
    item.n = n;
    item.k = k;
    item.permuted_heads = permuted_heads;
    item.dummy_spread = spread;
    item.place = reserve(static_cast<uint64_t>(ops::packed_bytes(item.packed, plan_.layout, n, k)));
    weight.format = item.packed;
    weight.layout = plan_.layout;
    weight.n = n;
    weight.k = k;
    weight.data = at(item.place);
    add(item, entry);
    if (has_bias) {
      TensorView bias;
      vector(name + ".bias", n, 0.0f, bias, permuted_heads);
      weight.bias = static_cast<const float*>(bias.data);
    }
  }

  void vector(const std::string& name, int64_t count, float dummy_mean, TensorView& view,
              int permuted_heads = 0) {
    const TensorEntry* entry = lookup(name, {count});
    LoadItem item;
    item.is_vector = true;
    item.stored = entry ? entry->format : quant::Format::kF32;
    item.n = 1;
    item.k = count;
    item.permuted_heads = permuted_heads;
    item.dummy_mean = dummy_mean;
    item.place = reserve(static_cast<uint64_t>(count) * sizeof(float));
    view = TensorView(at(item.place), DType::kF32, {count});
    add(item, entry);
  }

  void* at(uint64_t place) const { return buffer_ ? buffer_ + place : nullptr; }

  const ModelFiles& files_;
  const LoadOptions& options_;
  const TensorNames names_;
  std::byte* const buffer_;
  LoadPlan plan_;
  std::optional<Error> error_;
};

}  // namespace

int64_t LoadItem::unit_rows() const {
  if (is_vector) return 1;
  return permuted_heads > 0 ? std::lcm(n / permuted_heads, kPackedRows) : kPackedRows;
}

Result<LoadPlan> plan_load(const ModelFiles& files, const LoadOptions& options, DeviceType device,
                           std::byte* buffer) {
  return Planner(files, options, device, buffer).run();
}

void warn_of_unused_tensors(const ModelFiles& files, const LoadPlan& plan) {
  std::set<std::string_view> used;
  for (const LoadItem& item : plan.items)
    if (item.entry) used.insert(item.entry->name);
  const std::string head = tensor_names(files.checkpoint.container).head + ".weight";
  size_t count = 0;
  std::string_view example;
  for (const auto& [name, entry] : files.checkpoint.tensors) {
    const bool expected = name.ends_with(".rotary_emb.inv_freq") ||
                          name.ends_with(".attn.masked_bias") || name == "rope_freqs.weight" ||
                          (files.config.tied_head && name == head);
    if (expected || used.contains(name)) continue;
    if (count++ == 0) example = name;
  }
  if (count > 0)
    log_warn("{}: {} tensors are not part of a {} model and stay unread, {} for one",
             files.checkpoint.path.string(), count, files.config.architecture, example);
}

}  // namespace donar::model
