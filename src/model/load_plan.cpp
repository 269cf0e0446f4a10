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
#include "ops/linear_plan.h"

namespace donar::model {
namespace {

constexpr uint64_t kPlaceAlignment = 64;
constexpr uint64_t kTileAlignment = 1024;  // one atom of the swizzle (ops/cuda/common/tiled.h)
constexpr int64_t kPackedRows = 16;        // ops::repack_rows takes multiples of this

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

// One matrix of a group.
struct Part {
  std::string name;
  int64_t n = 0;
  int permuted_heads = 0;
};

class Planner {
 public:
  // vectors_begin: bytes of all matrices, behind which the vectors lie; a first walk learns it.
  Planner(const ModelFiles& files, const LoadOptions& options, const Exec& ex, std::byte* buffer,
          uint64_t vectors_begin)
      : files_(files),
        options_(options),
        ex_(ex),
        names_(tensor_names(files.checkpoint.container)),
        buffer_(buffer),
        vectors_begin_(vectors_begin) {
    plan_.layout = ops::preferred_layout(ex.device);
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
    matrix({names_.embedding, config.vocab_size}, config.dim, 0.02f, weights.embedding);
    weights.layers.resize(config.layers.size());
    for (size_t i = 0; i < weights.layers.size(); ++i)
      layer(static_cast<int>(i), weights.layers[i]);
    vector(names_.final_norm + ".weight", config.dim, 1.0f, weights.final_norm);
    weights.head.count = 1;
    if (config.tied_head)
      weights.head.parts[0] = weights.embedding;
    else
      matrix({names_.head, config.vocab_size}, config.dim, 0.02f, weights.head.parts[0]);
    if (error_) return tl::unexpected(std::move(*error_));
    std::stable_sort(plan_.items.begin(), plan_.items.end(),
                     [](const LoadItem& a, const LoadItem& b) {
                       if (!a.entry || !b.entry) return false;
                       return std::pair(a.entry->file, a.entry->offset) <
                              std::pair(b.entry->file, b.entry->offset);
                     });
    plan_.packed_bytes = plan_.matrix_bytes + vector_bytes_;
    weights.bytes = plan_.packed_bytes;
    return std::move(plan_);
  }

 private:
  bool dummy() const { return options_.load_format == LoadFormat::kDummy; }
  bool tiled() const { return plan_.layout == quant::Layout::kTiled; }

  void layer(int index, LayerWeights& layer) {
    const ModelConfig& config = files_.config;
    const LayerNames names = names_.layer(index);
    const int q_permuted = config.permuted_qk ? config.q_heads : 0;
    const int k_permuted = config.permuted_qk ? config.kv_heads : 0;
    vector(names.attn_norm + ".weight", config.dim, 1.0f, layer.attn_norm);
    group({{names.q, config.q_dim(), q_permuted},
           {names.k, config.kv_dim(), k_permuted},
           {names.v, config.kv_dim()}},
          config.dim, config.qkv_bias, layer.qkv);
    if (config.qk_norm) {
      vector(names.q_norm + ".weight", config.head_dim, 1.0f, layer.q_norm);
      vector(names.k_norm + ".weight", config.head_dim, 1.0f, layer.k_norm);
    }
    group({{names.attn_out, config.dim}}, config.q_dim(), config.out_bias, layer.attn_out);
    vector(names.ffn_norm + ".weight", config.dim, 1.0f, layer.ffn_norm);
    group({{names.gate, config.ffn_dim}, {names.up, config.ffn_dim}}, config.dim, config.mlp_bias,
          layer.gate_up, /*alternate=*/true);
    group({{names.down, config.dim}}, config.ffn_dim, config.mlp_bias, layer.down);
  }

  // nullptr: dummy weights without such a tensor in the checkpoint, or an error was noted.
  const TensorEntry* lookup(const std::string& name, const std::vector<int64_t>& shape) {
    if (error_ || (dummy() && !files_.checkpoint.contains(name))) return nullptr;
    Result<const TensorEntry*> entry = files_.checkpoint.find(name, shape);
    if (entry) return *entry;
    error_ = std::move(entry.error());
    return nullptr;
  }

  uint64_t reserve_matrix(uint64_t bytes) {
    const uint64_t place = plan_.matrix_bytes;
    plan_.matrix_bytes = align(place + bytes);
    return place;
  }
  uint64_t reserve_vector(int64_t count) {
    const uint64_t place = vectors_begin_ + vector_bytes_;
    vector_bytes_ = align(vector_bytes_ + static_cast<uint64_t>(count) * sizeof(float));
    return place;
  }
  uint64_t align(uint64_t bytes) const {
    const uint64_t step = tiled() ? kTileAlignment : kPlaceAlignment;
    return (bytes + step - 1) & ~(step - 1);
  }

  quant::Format packed_format(quant::Format stored) const {
    if (tiled()) return format_of(ex_.activation);
    return options_.dtype && is_plain_float(stored) ? format_of(*options_.dtype) : stored;
  }

  void add(LoadItem item, const TensorEntry* entry) {
    if (entry) plan_.stored_bytes += entry->bytes;
    item.entry = dummy() ? nullptr : entry;
    plan_.items.push_back(item);
  }

  // Matrices with one input. On CUDA they become one: row after row, or two in alternation.
  void group(const std::vector<Part>& parts, int64_t k, bool has_bias, quant::LinearGroup& group,
             bool alternate = false) {
    const float spread = 1.0f / std::sqrt(static_cast<float>(k));
    if (!tiled()) {
      group.count = static_cast<int>(parts.size());
      for (size_t i = 0; i < parts.size(); ++i)
        matrix(parts[i], k, spread, group.parts[i], has_bias);
      return;
    }
    group.count = 1;
    quant::LinearWeight& weight = group.parts[0];
    int64_t n = 0;
    for (const Part& part : parts) n += part.n;
    const uint64_t place = tile(n, k, /*one_part=*/alternate, weight);
    weight.interleaved = alternate;
    const int64_t padded = (n + weight.tile_rows - 1) / weight.tile_rows * weight.tile_rows;
    const uint64_t bias_place = has_bias ? reserve_vector(padded) : 0;
    if (has_bias) weight.bias = reinterpret_cast<const float*>(at(bias_place));
    LoadItem item;  // what the parts share
    item.tile_rows = weight.tile_rows;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (alternate) item.gate_or_up = static_cast<int>(i);
      item.place = place;
      add_matrix(parts[i], k, spread, item);
      if (has_bias) {
        item.place = bias_place;
        add_vector(parts[i].name + ".bias", parts[i].n, 0.0f, parts[i].permuted_heads, item);
      }
      item.first_row += parts[i].n;
    }
  }

  // On CUDA: only the embedding and the head, whose logits are whole sums.
  void matrix(const Part& part, int64_t k, float spread, quant::LinearWeight& weight,
              bool has_bias = false) {
    LoadItem item;
    if (tiled()) {
      item.place = tile(part.n, k, /*one_part=*/true, weight);
      item.tile_rows = weight.tile_rows;
      add_matrix(part, k, spread, item);
      return;
    }
    const TensorEntry* entry = lookup(part.name + ".weight", {part.n, k});
    weight.format = packed_format(stored_format(entry));
    weight.layout = plan_.layout;
    weight.n = part.n;
    weight.k = k;
    item.place = reserve_matrix(
        static_cast<uint64_t>(ops::packed_bytes(weight.format, plan_.layout, part.n, k)));
    weight.data = at(item.place);
    add_matrix(part, k, spread, item);
    if (has_bias) {
      LoadItem bias;
      bias.place = reserve_vector(part.n);
      weight.bias = reinterpret_cast<const float*>(at(bias.place));
      add_vector(part.name + ".bias", part.n, 0.0f, part.permuted_heads, bias);
    }
  }

  // Fills in a matrix of [n, k] in the layout of CUDA.
  uint64_t tile(int64_t n, int64_t k, bool one_part, quant::LinearWeight& weight) {
    const ops::LinearPlan tiles = ops::linear_plan(n, k, ex_.cuda->num_sms, one_part);
    weight.format = format_of(ex_.activation);
    weight.layout = plan_.layout;
    weight.n = n;
    weight.k = k;
    weight.tile_rows = tiles.tile_rows;
    weight.splits = tiles.splits;
    const uint64_t place = reserve_matrix(
        static_cast<uint64_t>(ops::tiled_weight_elements(n, k, weight.tile_rows)) * 2);
    weight.data = at(place);
    return place;
  }

  quant::Format stored_format(const TensorEntry* entry) const {
    return entry ? entry->format : format_of(options_.dtype.value_or(DType::kBF16));
  }

  void add_matrix(const Part& part, int64_t k, float spread, LoadItem item) {
    const TensorEntry* entry = lookup(part.name + ".weight", {part.n, k});
    item.stored = stored_format(entry);
    item.packed = packed_format(item.stored);
    item.n = part.n;
    item.k = k;
    item.permuted_heads = part.permuted_heads;
    item.dummy_spread = spread;
    add(item, entry);
  }

  void add_vector(const std::string& name, int64_t count, float dummy_mean, int permuted_heads,
                  LoadItem item) {
    const TensorEntry* entry = lookup(name, {count});
    item.is_vector = true;
    item.stored = entry ? entry->format : quant::Format::kF32;
    item.packed = quant::Format::kF32;
    item.n = 1;
    item.k = count;
    item.permuted_heads = permuted_heads;
    item.dummy_mean = dummy_mean;
    add(item, entry);
  }

  void vector(const std::string& name, int64_t count, float dummy_mean, TensorView& view) {
    LoadItem item;
    item.place = reserve_vector(count);
    view = TensorView(at(item.place), DType::kF32, {count});
    add_vector(name, count, dummy_mean, /*permuted_heads=*/0, item);
  }

  std::byte* at(uint64_t place) const { return buffer_ ? buffer_ + place : nullptr; }

  const ModelFiles& files_;
  const LoadOptions& options_;
  const Exec& ex_;
  const TensorNames names_;
  std::byte* const buffer_;
  const uint64_t vectors_begin_;
  uint64_t vector_bytes_ = 0;
  LoadPlan plan_;
  std::optional<Error> error_;
};

}  // namespace

int64_t LoadItem::unit_rows() const {
  if (is_vector) return 1;
  return permuted_heads > 0 ? std::lcm(n / permuted_heads, kPackedRows) : kPackedRows;
}

Result<LoadPlan> plan_load(const ModelFiles& files, const LoadOptions& options, const Exec& ex,
                           std::byte* buffer) {
  Result<LoadPlan> sizes = Planner(files, options, ex, nullptr, /*vectors_begin=*/0).run();
  if (!sizes) return sizes;
  return Planner(files, options, ex, buffer, sizes->matrix_bytes).run();
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
